"""The backplane between broker processes (DESIGN §11): `broker.model.interfaces.IBackplane` says what it does.

``local`` is that of a process that is alone, ``redis`` that of one of many.
"""
