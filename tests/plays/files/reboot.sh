#!/bin/sh
# Asks for the end of the machine, and meets it: reboot.sh FILE
touch "$1"
exec sleep 300
