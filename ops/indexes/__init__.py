"""Indexes: the checks, the plan that repairs what they find, for an operator to review, and its application."""
