"""The mails that a store's application names by kind: their catalogue, their Liquid, how they look, what stores wrote.

`kinds` knows what there is, `liquid` renders one text within bounds, `rendering` makes a whole mail of a kind,
`brand` is how a store's mails look, `drafts` and `previews` are texts as somebody types them, `stored` is what the
store saved, with its versions, `locales` says which language stands in for which, `handing_in` is what the API calls.
"""
