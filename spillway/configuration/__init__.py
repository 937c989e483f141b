"""What is wrong with a configuration although every value is of its type: beside the schema in `spillway.settings`."""
