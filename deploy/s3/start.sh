#!/bin/sh
# Everything but the S3 address listens inside the container alone: the inner ports ask nobody who they are. S3 has one
# of them, for other programs of the store's, on its own address: it takes only certificates of a name that nobody has.
set -eu
export WEED_GRPC_CA=/run/secrets/ca.crt WEED_GRPC_S3_CERT=/run/secrets/s3.crt WEED_GRPC_S3_KEY=/run/secrets/s3.key
export WEED_GRPC_S3_ALLOWED_COMMONNAMES=nobody
WEED_S3_SSE_KEK=$(cat /run/secrets/s3-encryption.key)
export WEED_S3_SSE_KEK
exec /usr/bin/weed -logtostderr=true server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
  -volume.max=0 -volume.preStopSeconds=1 -master.volumeSizeLimitMB="${VOLUME_MB:-1024}" -filer -filer.exposeDirectoryData=false \
  -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.cert.file=/run/secrets/s3.crt -s3.key.file=/run/secrets/s3.key \
  -s3.config=/run/secrets/s3.json -s3.autoCreateBucket=false -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0
