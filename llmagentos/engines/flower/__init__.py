"""Across organisations: agents dial out to one HTTPS port of a Flower SuperLink.

Flower moves bytes and no more. At both ends a relay in Flower's own process passes whole files
between Flower and a folder: at the server the coordinator's, at an agent that of the process that
trains. So a Flower process may die at any moment, and neither end loads a model for it.
"""
