/* SPDX-License-Identifier: Apache-2.0
 *
 * The codecs of this build. A record names its codec by id, so an id is never given to another codec.
 */
#include "compress/compress_int.h"

static const kvt_codec *const codecs[] = {
    &kvt_codec_raw,
#ifdef KVT_HAVE_ZSTD
    &kvt_codec_zstd,
#endif
    &kvt_codec_xpack,
    &kvt_codec_rans,
};

enum { CODEC_COUNT = sizeof codecs / sizeof *codecs };

const kvt_codec *kvt_codec_at(uint32_t i) { return i < CODEC_COUNT ? codecs[i] : NULL; }

const kvt_codec *kvt_codec_by_id(uint32_t id)
{
    for (uint32_t i = 0; i < CODEC_COUNT; i++)
        if (codecs[i]->id == id)
            return codecs[i];
    return NULL;
}

const kvt_codec *kvt_codec_by_name(const char *name)
{
    for (uint32_t i = 0; name != NULL && i < CODEC_COUNT; i++)
        if (strcmp(codecs[i]->name, name) == 0)
            return codecs[i];
    return NULL;
}
