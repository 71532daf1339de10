"""Orchestration: what runs when, and what is recorded."""
