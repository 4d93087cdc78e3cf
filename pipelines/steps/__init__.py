"""The pipeline's steps. The components in `pipelines.pipeline` call them with folders and files."""
