"""MQTT clients that others wrote, against the real broker over real sockets, as applications use them."""
