"""What a run found, as one page: records → view models → Jinja2 templates."""
