"""What the actors do: the fifteen actions of Human3.6M, each in two takes."""
