"""`phaseflow demo`: runs the whole loop once, and verifies each step through the public REST APIs of the parts."""
