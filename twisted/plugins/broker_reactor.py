"""Makes ``twistd --reactor=broker`` known."""

from twisted.application.reactors import Reactor

broker = Reactor("broker", "broker.reactor", "The epoll reactor with less work per event, for the broker.")
