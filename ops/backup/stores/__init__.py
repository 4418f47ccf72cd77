"""Where backups are kept: a folder, or a bucket of anything that speaks S3."""
