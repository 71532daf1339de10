"""What runs the work on partitions: processes of this machine, or a Ray cluster."""
