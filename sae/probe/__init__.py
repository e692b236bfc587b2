"""What can be read from activations and codes: probes, their controls, and what a model says next under an edit."""
