"""Operations: commands, admin API, jobs, checks and the server, above the application."""
