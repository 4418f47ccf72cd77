"""The AI providers, behind one small base. Knows neither Flask nor SQLAlchemy."""
