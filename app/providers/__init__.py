"""The AI providers behind one small base class. It imports neither Flask nor SQLAlchemy."""
