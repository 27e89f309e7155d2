"""What takes the functions of processors/ to AWS: packages, templates, and LocalStack to try both on."""
