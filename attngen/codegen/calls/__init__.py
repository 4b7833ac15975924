"""What a launch needs to know about a call, whatever the target: its arguments, their shapes, tables and checks."""
