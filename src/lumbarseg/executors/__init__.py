"""Run one function over many items in threads, processes or a Dask cluster."""
