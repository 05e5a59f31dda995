#!/bin/sh
# Runs a module as a function of kustomize, which starts this script in the directory of the kustomization.
exec mistctl fn "$@"
