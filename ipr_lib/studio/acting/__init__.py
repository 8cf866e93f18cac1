"""How a body moves: actors and their proportions, posture, footwork, gestures, and how a performance is staged."""
