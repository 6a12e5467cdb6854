"""What devices tell a service: counts of bounded size, never inputs."""
