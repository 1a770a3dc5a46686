#!/bin/sh
# A runtime in sh and curl: prints one line for each event and answers with it.
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
heads=$(mktemp)
while event=$(curl -sS -D "$heads" "$api/next"); do
  id=$(sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *//p' "$heads" | tr -d '\r')
  echo "sh handled $event"
  curl -sS -d "$event" "$api/$id/response" >/dev/null
done
