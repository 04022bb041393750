/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to compress: the codecs that the table lists.
 */
#ifndef KVT_COMPRESS_INT_H
#define KVT_COMPRESS_INT_H

#include "compress/compress.h"

extern const kvt_codec kvt_codec_raw;
extern const kvt_codec kvt_codec_zstd; /* only in builds with libzstd */
extern const kvt_codec kvt_codec_xpack;
extern const kvt_codec kvt_codec_rans;

#endif
