"""What the charts hold that is made from something else: READMEs, schemas, the list of projects, the image lock."""
