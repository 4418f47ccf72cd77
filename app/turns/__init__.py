"""The chat turn: begin, answer, finish, and the streams of its events."""
