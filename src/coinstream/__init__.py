"""A real-time platform for cryptocurrency market and user data."""
