"""ChirpStack v4 as the network of some motes: its MQTT integration, under the interface of our own network."""
