"""What goes over the wire, as pydantic models: the OpenAPI document is made from them."""
