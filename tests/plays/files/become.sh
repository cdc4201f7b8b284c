#!/bin/sh
# A sudo that becomes nobody. Its first word says whether it asks for a password, as sudo's plugin writes its words:
#   become.sh free|asks [-p PROMPT] -u USER COMMAND…
how=$1
shift
prompt=Password:
while [ $# -gt 0 ]; do
    case $1 in
    -p) prompt=$2; shift 2 ;;
    -u) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
if [ "$how" = asks ]; then
    # As sudo does on a terminal, and before the prompt: the answer may come at once.
    stty -echo 2>/dev/null
    printf '%s' "$prompt" >&2
    read -r password
    stty echo 2>/dev/null
    echo >&2
    if [ "$password" != sesame ]; then
        echo "Sorry, try again." >&2
        exit 1
    fi
fi
exec "$@"
