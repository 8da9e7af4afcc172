"""What `python -m jaxem` is made of: a table read, a search over numbers of components, a report and a picture."""
