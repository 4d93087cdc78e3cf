"""Which kinds of customers does a wholesaler have?"""
