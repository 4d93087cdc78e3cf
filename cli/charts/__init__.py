"""Generated files of the Helm charts (READMEs, schemas, list of projects, image lock) and the image mirror."""
