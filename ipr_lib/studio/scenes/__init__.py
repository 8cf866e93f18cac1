"""What there is to see: bodies, clothes, props and furniture, as shapes under paint."""
