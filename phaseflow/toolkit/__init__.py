"""What projects and the pipeline's steps share inside a training family: reading a source, models as ONNX."""
