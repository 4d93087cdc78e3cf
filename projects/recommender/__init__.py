"""What will a visitor want next?"""
