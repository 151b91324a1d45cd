"""Delivery against a daemon that loses, doubles, refuses, forgets and dies at any moment."""

from __future__ import annotations

from hypothesis import settings

from support.delivery_trial import Trial


class DeliveryTrial(Trial):
    """In memory alone."""


DeliveryTrial.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDeliveryModel = DeliveryTrial.TestCase
