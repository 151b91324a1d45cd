"""Delivery against a daemon that loses, doubles, refuses, forgets and dies at any moment."""

from __future__ import annotations

from hypothesis import settings

from support.delivery_trial import Trial


class DeliveryTrial(Trial):
    """In memory alone."""


DeliveryTrial.TestCase.settings = settings(stateful_step_count=40)
TestDeliveryModel = DeliveryTrial.TestCase
