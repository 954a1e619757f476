"""Files on servers, read as files on disk are: paths that are URLs, their bytes by range, transfers, and a cache."""
