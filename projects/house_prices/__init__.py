"""What a house in Ames, Iowa, sells for."""
