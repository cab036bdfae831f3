"""Inputs that are broken or odd, made by the tests; each states what is right, a result or a refusal by name."""
