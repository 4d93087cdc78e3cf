"""The pipeline's steps: functions of folders and files, called by the components in `pipelines.pipeline`."""
