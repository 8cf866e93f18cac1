"""How a scene becomes an image: rays, light and shadow, the room, the lens and the sensor."""
