# The image of a function, and the local Lambda to run it in.
ARG FUNCTION
FROM ${FUNCTION}
WORKDIR /src
COPY . .
RUN python3 -m venv /local && /local/bin/pip install --quiet ./proto ".[local]"
WORKDIR ${LAMBDA_TASK_ROOT}
