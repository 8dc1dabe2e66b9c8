"""The directory: who there is and who may."""
