"""The programs, and the settings files that they come with."""
