"""What projects and the pipeline's steps share inside a training environment: reading a source, models as ONNX."""
