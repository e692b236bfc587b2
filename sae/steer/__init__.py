"""Steering: pushing a model along a direction, what that does to a concept's consequence, and what it costs."""
