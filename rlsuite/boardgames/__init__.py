"""Tools for playing board games: games by name, openings, matches, ratings, records and opponents."""
