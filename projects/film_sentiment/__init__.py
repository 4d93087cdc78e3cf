"""Is a sentence about a film friendly?"""
