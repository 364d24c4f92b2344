"""Encoders that put images and texts into one space: what does a picture show?"""
